"""The ground everything stands on: items, media, encoders, spaces, pipelines, names. No model lives here."""
