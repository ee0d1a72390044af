import 'fairlead'
