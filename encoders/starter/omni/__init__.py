"""The starter's single network for several tasks: it captions scenes, reads charts and transcribes speech."""
