"""The sub-commands of `qgf`, one module each. Importing them must stay cheap: whatever is heavy is imported inside."""
