load_modules
md5=$(dd if=/dev/vda bs=1M count=1 2>/dev/null | md5sum)
say "reads ${md5%% *}"
dd if=/dev/vda of=/dev/vda bs=1M count=1 seek=4 conv=notrunc,fsync 2>/dev/null && say "copied"
