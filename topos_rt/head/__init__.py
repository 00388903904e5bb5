"""What a head is: topology, hierarchy, mesh, normals, rig, poses and levels of detail."""
