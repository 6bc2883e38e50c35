import ModelFiles
import Tensors

/// How the matrices of a model are kept on its device.
public struct WeightStorage: Sendable {
  private let choose: @Sendable (String) -> FrozenStorage
  /// Whether embedding rows are gathered in the host's memory, where the head does not share them.
  public private(set) var embeddingIsOnHost = false

  /// A choice for each matrix by its module's name, as checkpoints spell it: `model.layers.3.mlp.down_proj`, `lm_head`.
  public init(_ choose: @escaping @Sendable (String) -> FrozenStorage) { self.choose = choose }

  /// How the matrix of a module is kept.
  public subscript(_ module: String) -> FrozenStorage { choose(module) }

  /// The same with embedding rows gathered in the host's memory.
  public func withEmbeddingOnHost() -> WeightStorage {
    var storage = self
    storage.embeddingIsOnHost = true
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
