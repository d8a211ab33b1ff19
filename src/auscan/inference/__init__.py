"""The three stages of the network behind one contract, whatever engine runs them."""
