import ModelFiles
import Tensors

/// How the matrices of a model are kept on its device.
public struct WeightStorage: Sendable {
  private let choose: @Sendable (String) -> FrozenStorage
  /// How the head is kept where it is a matrix of its own.
  public private(set) var head = FrozenStorage.operands
  /// Whether what the optimizer keeps of each parameter lies in the host's memory.
  public private(set) var momentsAreOnHost = false
  /// Whether embedding rows are gathered in the host's memory, where the head does not share them.
  public private(set) var embeddingIsOnHost = false
  /// The layers whose matrices lie in the host's memory and take turns on the device, rising.
  public private(set) var streamedLayers: [Int] = []
  /// Places on the device for the layers that take turns.
  public private(set) var streamPlaces = 0

  /// A choice for each matrix by its module's name, as checkpoints spell it: `model.layers.3.mlp.down_proj`, `lm_head`.
  public init(_ choose: @escaping @Sendable (String) -> FrozenStorage) { self.choose = choose }

  /// How the matrix of a module is kept.
  public subscript(_ module: String) -> FrozenStorage { module == "lm_head" ? head : choose(module) }

  /// The same with a head that is kept otherwise.
  public func withHead(_ head: FrozenStorage) -> WeightStorage {
    var storage = self
    storage.head = head
    return storage
  }

  /// The same with what the optimizer keeps in the host's memory.
  public func withMomentsOnHost() -> WeightStorage {
    var storage = self
    storage.momentsAreOnHost = true
    return storage
  }

  /// The same with embedding rows gathered in the host's memory.
  public func withEmbeddingOnHost() -> WeightStorage {
    var storage = self
    storage.embeddingIsOnHost = true
    return storage
  }

  /// The same with `count` of `layerCount` layers in the host's memory, which take turns in `places` on the device.
  ///
  /// They lie as far from one another as they can, so that one comes while others compute.
  public func withStreamedLayers(_ count: Int, of layerCount: Int, places: Int) -> WeightStorage {
    var storage = self
    let count = min(max(0, count), layerCount)
    storage.streamedLayers = (0..<count).map { (2 * $0 + 1) * layerCount / (2 * count) }
    storage.streamPlaces = min(places, count)
    return storage
  }

  /// Every matrix in the type of matrix operands.
  public static let operands = WeightStorage { _ in .operands }

  /// The projections of all layers in NF4; embedding and head, and the modules that are named, in 16 bits.
  ///
  /// `resident`: dequantized once and kept so; see ``FrozenStorage/nf4(resident:)``.
  public static func nf4(resident: Bool, except skipped: Set<String> = []) -> WeightStorage {
    WeightStorage { module in
      module.hasSuffix("_proj") && !skipped.contains(module) ? .nf4(resident: resident) : .operands
    }
  }
}

extension Checkpoint {
  /// The projections that are stored in 16 bits although others are in NF4; nil where none is.
  package var modulesBesideNF4: Set<String>? {
    var others: Set<String> = []
    var isQuantized = false
    for layer in 0..<configuration.layerCount {
      for module in TargetModule.allCases {
        let path = module.path(layer: layer)
        // A missing tensor is said when it is loaded.
        let isNF4 = (try? tensor(path + ".weight"))?.nf4Blocks != nil
        if isNF4 { isQuantized = true } else { others.insert(path) }
      }
    }
    return isQuantized ? others : nil
  }
}
