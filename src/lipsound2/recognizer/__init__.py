"""Sound -> text: Jasper with CTC, and others behind one Protocol."""
