/// How elements find their codes.
public enum Rounding: String, Sendable, CaseIterable {
  /// Each the nearest, under its block's largest magnitude: bitsandbytes' own.
  case nearest
  /// The absmax of a block is the one that costs least where inputs are as calibration saw them; then each the nearest.
  case searched
  /// Beside that, later columns make up for the errors of earlier ones: GPTQ's recursion in NF4's code book.
  case compensated
}
