# CR2 standard errors and Satterthwaite degrees of freedom of a mean, by clubSandwich 0.5.8 (R 4).
# Rscript mean_cr2.R   (in this folder; writes mean_cr2_data.csv and mean_cr2_expected.csv)
library(clubSandwich)
set.seed(20261124)
shapes <- list(c(2, 40, 7, 15, 33), c(100, rep(3, 19)), sample(2:40, 20, TRUE), rep(5, 8))
data <- NULL; out <- NULL
for (k in seq_along(shapes)) {
  cluster <- rep(seq_along(shapes[[k]]), shapes[[k]])
  y <- 0.3 + rnorm(length(shapes[[k]]))[cluster] + rnorm(length(cluster))
  data <- rbind(data, data.frame(set = k, cluster = cluster, y = y))
  test <- coef_test(lm(y ~ 1), vcov = "CR2", cluster = cluster, test = "Satterthwaite")
  out <- rbind(out, data.frame(set = k, mean = test$beta, se = test$SE, df = test$df_Satt, p = test$p_Satt))
}
write.csv(format(data, digits = 17), "mean_cr2_data.csv", row.names = FALSE, quote = FALSE)
write.csv(format(out, digits = 15), "mean_cr2_expected.csv", row.names = FALSE, quote = FALSE)
