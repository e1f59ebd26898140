print("form feed")
# a comment
	raise_ = 1
