"""Symbols, words with their times, and subtitles."""
