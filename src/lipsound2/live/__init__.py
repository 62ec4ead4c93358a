"""`lipsound2 live`: a camera -> sound while one speaks, and words as captions."""
