load_modules
count run /dev/vda 30000 4 # until it is told to stop
