"""Run folders on the Hugging Face Hub: pushed with a model card that is made from what the folder says, and fetched back.

    dt.load("out/janus/dcdd").push_to_hub("me/janus-dcdd", model_card_kwargs={"results": "out/eval"})
    dt.load("me/janus-dcdd")

run folder -card_of-> README.md ; model -OnHub.push_to_hub-> repository -OnHub.from_pretrained | dt.load-> model
"""
