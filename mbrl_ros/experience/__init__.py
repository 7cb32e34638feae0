"""Experience: transitions, assembled from measurements and commands; `bags` records the messages on disk."""
