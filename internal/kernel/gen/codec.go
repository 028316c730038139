package main

// codecs writes the kernels of the form codecForm.
func codecs() {}
