"""A student, a loss, a teacher and a data set for fer-distill, kept outside its repository."""
