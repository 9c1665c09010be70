"""What only a GPU can prove. Skipped without one; `HFTL_TEST_GPU=cpu` runs the same lines on a CPU, as a test of the tests."""
