import CUDADriver
import Tensors

/// The GPU's copies of the small arrays that operations are given in host memory: positions, rows, tiles.
///
/// A batch's arrays are the same values for every layer, and in Swift the same storage, which `==` notices first: they
/// travel once.
final class HostArrays {
  private struct Entry<Key: Equatable> {
    var key: Key
    var tensor: Tensor
  }

  /// What tiles were made for.
  struct TileKey: Equatable {
    var spans: [AttentionSpan]
    var kind: Int
  }

  private var integers: [Entry<[Int32]>] = []
  private var tiles: [Entry<TileKey>] = []
  private static let kept = 8
  private let upload: ([Int32], Tensor?) throws -> Tensor

  /// `upload` copies values into the tensor where they fit it, else into one that it makes.
  init(upload: @escaping ([Int32], Tensor?) throws -> Tensor) { self.upload = upload }

  /// `values` as int32 `[1, count]`.
  func tensor(_ values: [Int32]) throws -> Tensor {
    if let index = integers.lastIndex(where: { $0.key == values }) { return integers[index].tensor }
    let old = integers.count < Self.kept ? nil : integers.removeFirst().tensor
    let tensor = try upload(values, old)
    integers.append(Entry(key: values, tensor: tensor))
    return tensor
  }

  /// The tiles that `make` lists for `key`.
  func tiles(_ key: TileKey, make: () -> [Int32]) throws -> Tensor {
    if let index = tiles.lastIndex(where: { $0.key == key }) { return tiles[index].tensor }
    let old = tiles.count < Self.kept ? nil : tiles.removeFirst().tensor
    let tensor = try upload(make(), old)
    tiles.append(Entry(key: key, tensor: tensor))
    return tensor
  }
}
