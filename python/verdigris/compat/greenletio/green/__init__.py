"""greenletio's green modules: other names of those in `verdigris.green`."""
