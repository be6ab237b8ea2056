"""RLlib's distributed learners: checked without Ray, trained with it, played with torch alone."""
