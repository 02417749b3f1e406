"""
The commands of the pages, and what is wrong with them: renamed options, files that are gone.

No command is run. A program of ours gets the words of the page as its command line and stops once
its own parser has read them; `make` says what it would start; what `ros2` would be given is looked
up in launch files, messages and the parameters of the nodes.
"""
