"""`python -m zephyr_data` is `zephyr-data`."""

from zephyr_data.cli import main

if __name__ == "__main__":
    main()
