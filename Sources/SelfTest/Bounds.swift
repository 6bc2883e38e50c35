/// ‖error‖ / ‖reference‖ that each kind of result may have.
///
/// bf16 rounds to 8 bits: values that are rounded once are off by 1.1e-3 in the mean, 2e-3 at most.
enum Bounds {
  /// Copies: every bit.
  static let exact = 0.0
  /// fp32 throughout, sums included.
  static let float = 2e-5
  /// fp32 with approximations of exp and division.
  static let approximate = 1e-4
  /// Exact or fp32 arithmetic, rounded to bf16 at the end.
  static let rounded = 3e-3
  /// A few values rounded to bf16, among which errors need not level out: half of a last place.
  static let fewRounded = 4e-3
  /// A result of operands that were themselves rounded to bf16 on the way.
  static let twice = 6e-3
  /// Attention's gradients: differences of rounded products.
  static let attentionGradient = 1.5e-2
}
