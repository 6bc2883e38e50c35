import Tensors

extension CUDADevice {
  /// What ``makeFrozenMatrices(_:directions:)`` allocates for groups in their order, and what stays allocated beside them.
  public func frozenFootprint(_ groups: [FrozenShape], places: Int) -> FrozenFootprint {
    var memory = FrozenMemory.Forecast()
    var matrices = 0
    var opened = 0
    var absmax = 0
    for group in groups {
      let room = group.directions.contains(.backward) ? Self.usualRoom : 0
      for (outputs, storage) in zip(group.outputs, group.storage) where storage != .operands && !storage.isTiled {
        absmax = max(absmax, NF4Matrix.blockCount(outputs * group.inputs) * 4)
      }
      guard let parts = Self.closedParts(of: group) else {
        matrices += Self.allocated(
          OpenMatrices.Layout(outputs: group.outputs, inputs: group.inputs, room: room).byteCount)
        continue
      }
      if group.segment == nil { for bytes in parts { memory.add(bytes) } }
      opened = max(
        opened,
        openBytes(group.outputs, inputs: group.inputs, room: room, isTiled: group.storage.contains { $0.isTiled }))
    }
    let segments = Self.segmentBytes(of: groups)
    let place = segments.max() ?? 0
    return FrozenFootprint(
      matrices: matrices + memory.byteCount + min(places, segments.count) * place,
      working: ProductPlans.workspaceBytes + Staging.byteCount + Self.allocated(opened) + Self.allocated(absmax),
      host: segments.count * place)
  }

  /// Bytes of the place in which a group is opened, whole or some rows at a time.
  func openBytes(_ outputs: [Int], inputs: Int, room: Int, isTiled: Bool) -> Int {
    if isTiled {
      return 2 * inputs * Self.tileRows(inputs: inputs, outputs: outputs.reduce(0, +), byteCount: headTileBytes)
    }
    return OpenMatrices.Layout(outputs: outputs, inputs: inputs, room: max(room, Self.usualRoom)).byteCount
  }

  /// Bytes of each segment of a stream that groups belong to.
  static func segmentBytes(of groups: [FrozenShape]) -> [Int] {
    var bytes: [Int: Int] = [:]
    for group in groups {
      guard let segment = group.segment, let parts = closedParts(of: group) else { continue }
      bytes[segment, default: 0] += parts.reduce(0) { $0 + allocated($1) }
    }
    return bytes.sorted { $0.key < $1.key }.map(\.value)
  }

  /// Bytes of the tensors of a group that is opened for use; nil where it lies open.
  private static func closedParts(of group: FrozenShape) -> [Int]? {
    guard
      group.segment != nil || group.storage.contains(where: { $0.isTiled || $0 == .nf4(resident: false) })
    else { return nil }
    return zip(group.outputs, group.storage).flatMap { outputs, storage in
      if storage == .operands { return [outputs * group.inputs * 2] }
      if storage == .tiled(.int8) {
        return [outputs * group.inputs, outputs * group.inputs / Int8Matrix.blockLength * 4]
      }
      let blocks = NF4Matrix.blockCount(outputs * group.inputs)
      return [outputs * group.inputs / 2, blocks, NF4Matrix.nestedCount(blocks) * 4, 4]
    }
  }

  /// Bytes that ``allocate(byteCount:)`` takes.
  static func allocated(_ byteCount: Int) -> Int { byteCount == 0 ? 0 : (byteCount + 255) / 256 * 256 }
}
