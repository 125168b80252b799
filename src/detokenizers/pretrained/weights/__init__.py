"""Names of published weights -> files, verified; other people's formats read without executing anything."""
