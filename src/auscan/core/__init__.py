"""AU names, errors, configs and checkpoint folders; imports no other auscan package and no torch."""
