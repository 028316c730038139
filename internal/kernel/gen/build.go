package main

// builds writes the kernels of the form buildForm.
func builds() {}
