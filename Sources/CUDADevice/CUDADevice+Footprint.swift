import Tensors

extension CUDADevice {
  /// What ``makeFrozenMatrices(_:directions:)`` allocates for groups in their order, and what stays allocated beside them.
  public func frozenFootprint(_ groups: [FrozenShape]) -> FrozenFootprint {
    var memory = FrozenMemory.Forecast()
    var matrices = 0
    var opened = 0
    var absmax = 0
    for group in groups {
      let room = group.directions.contains(.backward) ? Self.usualRoom : 0
      let layout = OpenMatrices.Layout(outputs: group.outputs, inputs: group.inputs, room: room)
      for (outputs, storage) in zip(group.outputs, group.storage) where storage != .operands {
        absmax = max(absmax, NF4Matrix.blockCount(outputs * group.inputs) * 4)
      }
      guard group.storage.contains(.nf4(resident: false)) else {
        matrices += Self.allocated(layout.byteCount)
        continue
      }
      for (outputs, storage) in zip(group.outputs, group.storage) {
        if storage == .operands {
          memory.add(outputs * group.inputs * 2)
          continue
        }
        let blocks = NF4Matrix.blockCount(outputs * group.inputs)
        for bytes in [outputs * group.inputs / 2, blocks, NF4Matrix.nestedCount(blocks) * 4, 4] { memory.add(bytes) }
      }
      let open = OpenMatrices.Layout(
        outputs: group.outputs, inputs: group.inputs, room: max(room, Self.usualRoom))
      opened = max(opened, open.byteCount)
    }
    return FrozenFootprint(
      matrices: matrices + memory.byteCount,
      working: ProductPlans.workspaceBytes + Staging.byteCount + Self.allocated(opened) + Self.allocated(absmax))
  }

  /// Bytes that ``allocate(byteCount:)`` takes.
  static func allocated(_ byteCount: Int) -> Int { byteCount == 0 ? 0 : (byteCount + 255) / 256 * 256 }
}
