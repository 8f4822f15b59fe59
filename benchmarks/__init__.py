"""What congruence costs, against the pair loop, the floor that the arithmetic sets, and public packages."""
