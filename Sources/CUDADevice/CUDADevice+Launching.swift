import CUDADriver
import Tensors

/// A kernel's argument as eight bytes, of which a four-byte one uses the first.
protocol KernelArgument { var word: UInt64 { get } }
extension Int: KernelArgument { var word: UInt64 { UInt64(bitPattern: Int64(self)) } }
extension Int32: KernelArgument { var word: UInt64 { UInt64(UInt32(bitPattern: self)) } }
extension UInt32: KernelArgument { var word: UInt64 { UInt64(self) } }
extension UInt64: KernelArgument { var word: UInt64 { self } }
extension Float: KernelArgument { var word: UInt64 { UInt64(bitPattern) } }
extension Bool: KernelArgument { var word: UInt64 { self ? 1 : 0 } }
/// A tensor is the address of its first element.
extension Tensor: KernelArgument { var word: UInt64 { UInt64(address) } }
extension Tensor? { var word: UInt64 { self.map { UInt64($0.address) } ?? 0 } }

extension CUDADevice {
  /// Blocks of a launch, and threads of a block.
  struct Grid {
    var x: Int
    var y = 1
    var threadsX: Int
    var threadsY = 1

    /// Threads x over `columns` items of work, y over rows; kernels stride over what is beyond the grid.
    static func rows(_ rows: Int, by columns: Int) -> Grid {
      var width = 1
      while width < 256, width < columns { width *= 2 }
      let height = 256 / width
      return Grid(
        x: min(max(1, (columns + width - 1) / width), 65_535), y: min(max(1, (rows + height - 1) / height), 65_535),
        threadsX: width, threadsY: height)
    }

    /// One block per row, as many threads as `eights` of a row ask for.
    static func blockPerRow(_ rows: Int, eights: Int, most: Int) -> Grid {
      var threads = 32
      while threads < most, threads < eights { threads *= 2 }
      return Grid(x: rows, threadsX: threads)
    }
  }

  /// Launches a kernel.
  func launch(_ name: String, _ grid: Grid, sharedBytes: Int = 0, _ words: [UInt64]) throws {
    guard grid.x > 0, grid.y > 0 else { return }
    blocksBefore = grid.x * grid.y
    try context.enter()
    let function = try kernels.function(name, sharedBytes: sharedBytes)
    let code = withUnsafeTemporaryAllocation(of: UInt64.self, capacity: words.count) { values in
      withUnsafeTemporaryAllocation(of: UnsafeMutableRawPointer?.self, capacity: words.count) { pointers in
        for (index, word) in words.enumerated() {
          values[index] = word
          pointers[index] = values.baseAddress.map { UnsafeMutableRawPointer($0 + index) }
        }
        guard let parameters = pointers.baseAddress else { return Int32(1) }
        return context.driver.pointee.launch(
          function, UInt32(grid.x), UInt32(grid.y), 1, UInt32(grid.threadsX), UInt32(grid.threadsY), 1,
          UInt32(sharedBytes), context.stream, parameters, nil)
      }
    }
    try context.check(code, "launching \(name) on \(grid.x) × \(grid.y) blocks")
  }

  /// Launches a kernel that takes one structure of eight-byte fields.
  ///
  /// From compute capability 9.0 on its blocks may begin while the kernel before ends, unless told otherwise; it waits for that
  /// one's results itself.
  func launch(
    _ name: String, _ grid: Grid, sharedBytes: Int = 0, structure words: [UInt64], overlaps: Bool = true
  ) throws {
    guard grid.x > 0, grid.y > 0 else { return }
    blocksBefore = grid.x * grid.y
    try context.enter()
    let function = try kernels.function(name, sharedBytes: sharedBytes, isAllShared: true)
    let code = words.withUnsafeBytes { bytes -> Int32 in
      // Programmatic stream serialization is attribute 6.
      var attribute = sl_launch_attribute()
      attribute.kind = 6
      attribute.value = 1
      return withUnsafePointer(to: attribute) { attribute in
        var launch = sl_launch(
          gridX: UInt32(grid.x), gridY: UInt32(grid.y), gridZ: 1, blockX: UInt32(grid.threadsX),
          blockY: UInt32(grid.threadsY), blockZ: 1, sharedBytes: UInt32(sharedBytes), stream: context.stream,
          attributes: attribute, attributeCount: overlapsLaunches && overlaps ? 1 : 0)
        var parameter = UnsafeMutableRawPointer(mutating: bytes.baseAddress)
        return context.driver.pointee.launchExtended(&launch, function, &parameter, nil)
      }
    }
    try context.check(code, "launching \(name) on \(grid.x) × \(grid.y) blocks")
  }

  /// Whether every row of every tensor begins at a multiple of 16 bytes: what vector loads want.
  func isAligned(_ tensors: Tensor?...) -> Bool {
    tensors.allSatisfy { tensor in
      guard let tensor else { return true }
      return tensor.address % 16 == 0 && (tensor.rows <= 1 || tensor.rowStride * tensor.dtype.byteCount % 16 == 0)
    }
  }

  /// "bf16" or "f32", as kernels' names end.
  func suffix(_ tensor: Tensor) -> String { tensor.dtype == .bfloat16 ? "bf16" : "f32" }
}
