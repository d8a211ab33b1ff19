"""How far two coders agree, frame by frame and event by event."""
