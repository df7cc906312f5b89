"""The main job: index the Python standard library, one task per source file."""
