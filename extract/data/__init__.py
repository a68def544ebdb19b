"""The questions that ship with doubtlens, with their human answers."""
