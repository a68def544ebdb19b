"""Studies that ship with doubtlens, one YAML file each."""
