"""`lipsound2 serve`: a page on this machine -> videos of its visitors spoken and read, and a camera spoken live."""
