"""What the owner computes in the clear before encrypting: loading images, features, projection and whitening.

- `images`, `arrays`: folders, files, PIL images, arrays and tensors -> uint8 grey or RGB arrays, one at a time
- `labels`: CSV files, class folders and lists -> class numbers
- `pixels`, `hog`, `backbone`: base features; `base` finds them by name
- `whitening`: projection, whitening, clipping
- `feature_map`: all of it, fitted once from clear images and kept in the private half of the task
"""
