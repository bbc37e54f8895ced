say "nproc $(nproc)"
