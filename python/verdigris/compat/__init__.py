"""The exact interfaces of the libraries that verdigris follows.

Each module here stands for one of them: change the import line, and the program runs on
verdigris. They use the public names of `verdigris` only.
"""
