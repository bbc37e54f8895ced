load_modules
count run /dev/vda 100000 256 # until it is told to stop; most of the time L2 has its own code running
