"""Named settings of backends: where each value comes from."""
