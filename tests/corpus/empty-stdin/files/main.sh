echo "[$(cat)]"
