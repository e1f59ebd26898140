import os, signal
print('lost, for the buffer is')
os.kill(os.getpid(), signal.SIGKILL)
