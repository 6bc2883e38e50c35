import Tensors

/// How the matrices of a model are kept on its device.
public struct WeightStorage: Sendable {
  private let choose: @Sendable (String) -> FrozenStorage

  /// A choice for each matrix by its module's name, as checkpoints spell it: `model.layers.3.mlp.down_proj`, `lm_head`.
  public init(_ choose: @escaping @Sendable (String) -> FrozenStorage) { self.choose = choose }

  /// How the matrix of a module is kept.
  public subscript(_ module: String) -> FrozenStorage { choose(module) }

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
