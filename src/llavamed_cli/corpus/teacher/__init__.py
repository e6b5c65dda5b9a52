"""Teachers write conversations about a picture from text alone; what they write is held to that text."""
