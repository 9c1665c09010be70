"""Is the model better, how surely, and where is it wrong: figures of predictions, without torch."""

CV_ROWS = 3000  # training rows that cross-validation looks at, to choose a penalty or a number of neighbours
CV_FOLDS = 3
# Rows times classes from which more threads pay. Below, they wait for each other in spinning loops: on a machine with
# other work the cross-validation of a probe took 20 s instead of 0.5 s.
THREADS_PAY = 300_000
RARE = 5.0  # `--class_weights auto` weighs when the largest class has more than so many times the rows of the smallest
