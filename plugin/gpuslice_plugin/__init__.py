"""What the kubelet and the API server are told: device plugin, DRA driver and their parts."""
