"""Speech recognition: Jasper with CTC, and others behind one Protocol."""
