"""The edge under mini-batch noise: growth of second moments and of single runs, and the stationary law at the edge."""
