"""Writes features as their publishers do, independently of what reads them."""

import numpy as np


def write_hdf5(path, arrays):
    import h5py

    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
    return path


def write_bigfile(folder, arrays):
    """As MS-SL's: rows in an order of their own, not that of the videos."""
    folder.mkdir(parents=True)
    owned = [(f"{name}_{i}", row) for name, rows in arrays.items() for i, row in enumerate(rows)]
    owned = [owned[i] for i in np.random.default_rng(0).permutation(len(owned))]
    np.stack([row for _, row in owned]).astype("<f4").tofile(folder / "feature.bin")
    (folder / "id.txt").write_text(" ".join(name for name, _ in owned), encoding="iso-8859-1")
    (folder / "shape.txt").write_text(f"{len(owned)} {len(owned[0][1])}")
    frames = {name: [f"{name}_{i}" for i in range(len(rows))] for name, rows in arrays.items()}
    (folder / "video2frames.txt").write_text(str(frames), encoding="iso-8859-1")
    return folder


def write_npz(folder, arrays, key="features"):
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        np.savez(folder / f"{name}.npz", **(array if isinstance(array, dict) else {key: array}))
    return folder


def write_npy(folder, arrays):
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


WRITERS = {"hdf5": write_hdf5, "bigfile": write_bigfile, "npz": write_npz, "npy": write_npy}
