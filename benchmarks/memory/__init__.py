"""How fast a memory is searched, and whether it finds what a camera saw."""
