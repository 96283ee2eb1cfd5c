"""The command line. `main.run` is the entry point; each other module holds a group of commands or what they share.

Nothing outside the standard library, Typer and Rich is imported before a command needs it, so that `train` and
`classify` load neither the owner's half nor an image library.
"""
