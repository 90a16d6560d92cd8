# Rscript rm_anova.R   -> rm_anova_expected.csv, read by test_anova.py
# Two-way repeated-measures ANOVA of each data set by afex (Debian: r-cran-afex 1.2, r-cran-car 3.1).
suppressMessages(library(afex))
out <- NULL
for (name in c("three_by_four", "two_by_two", "two_by_three_binary")) {
  data <- read.csv(paste0(name, ".csv"))
  fit <- suppressWarnings(suppressMessages(
    aov_ez("item", "score", data, within = c("model", "accel"), include_aov = FALSE)))
  full <- suppressWarnings(summary(fit$Anova, multivariate = FALSE))
  uni <- full$univariate.tests
  pes <- anova(fit, es = "pes", correction = "none")
  ges <- anova(fit, es = "ges", correction = "none")
  for (source in c("model", "accel", "model:accel")) {
    has <- !is.null(full$sphericity.tests) && source %in% rownames(full$sphericity.tests)
    out <- rbind(out, data.frame(
      data = name, source = sub(":", " x ", source),
      ss = uni[source, "Sum Sq"], df1 = uni[source, "num Df"], df2 = uni[source, "den Df"],
      f = uni[source, "F value"], p = uni[source, "Pr(>F)"],
      eps = if (has) full$pval.adjustments[source, "GG eps"] else 1,
      p_gg = if (has) full$pval.adjustments[source, "Pr(>F[GG])"] else uni[source, "Pr(>F)"],
      w = if (has) full$sphericity.tests[source, "Test statistic"] else NA,
      p_sphericity = if (has) full$sphericity.tests[source, "p-value"] else NA,
      eta2_partial = pes[source, "pes"], eta2_generalized = ges[source, "ges"]))
  }
}
write.csv(format(out, digits = 15, trim = TRUE), "rm_anova_expected.csv", row.names = FALSE, quote = FALSE)
